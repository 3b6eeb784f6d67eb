"""Writes batches of 1,000 points through MLflow's own store, without its server: python peer.py DATABASE BATCHES.
Prints the milliseconds of each batch as JSON."""
import json
import sys
import time

from mlflow.entities import Metric
from mlflow.store.tracking.sqlalchemy_store import SqlAlchemyStore

database, batches = sys.argv[1], int(sys.argv[2])
store = SqlAlchemyStore(database, "/tmp")
run = store.create_run(store.create_experiment(f"direct-{time.time()}"), "bench", int(time.time() * 1000), [], "direct")
names = ["loss", "learningRate", "imagesPerSecond", "waitShare"]
taken = []
for batch in range(batches):
    now = int(time.time() * 1000)
    points = [Metric(name, 0.5 + step, now, batch * 250 + step) for step in range(250) for name in names]
    began = time.perf_counter()
    store.log_batch(run.info.run_id, points, [], [])
    taken.append((time.perf_counter() - began) * 1000)
print(json.dumps(taken))
