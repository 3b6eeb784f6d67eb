# Faiss' side of the k-means bench, told what to do by lines of JSON on standard input.
import json
import resource
import sys
import time

import faiss
import numpy

faiss.omp_set_num_threads(int(sys.argv[1]))
points = None
start = None
row = None


def prepare(message):
    global points, start, row
    row = message["row"]
    points = numpy.fromfile(message["file"], dtype=numpy.float32).reshape(row["n"], row["d"])
    start = points[message["start"]].copy()


def cluster():
    started = time.perf_counter()
    kmeans = faiss.Kmeans(
        row["d"], row["k"], niter=row["iterations"], min_points_per_centroid=1, max_points_per_centroid=row["n"]
    )
    kmeans.train(points, init_centroids=start)
    distances, assignments = kmeans.index.search(points, 1)
    seconds = time.perf_counter() - started
    return {
        "seconds": seconds,
        "inertia": float(distances.sum(dtype=numpy.float64)),
        "iterations": len(kmeans.iteration_stats),
        "empties": int(row["k"] - len(numpy.unique(assignments))),
        "maxRssBytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024,
    }


def answer(message):
    if message["command"] == "hello":
        return {"version": faiss.__version__, "threads": faiss.omp_get_max_threads()}
    if message["command"] == "cluster":
        return cluster()
    prepare(message)
    return {}


for line in sys.stdin:
    try:
        found = answer(json.loads(line))
    except Exception as error:  # The other side reports it.
        found = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(found), flush=True)
