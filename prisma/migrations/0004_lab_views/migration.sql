-- CreateIndex
CREATE INDEX "events_time_idx" ON "events"("time");



-- What dashboards read, and all that they may read: `gestalt migrate --grafana-role` grants it. A view keeps its
-- columns; one that must change becomes a new one, named _v2, beside it. docs/dashboards.md describes them.
CREATE SCHEMA "grafana";

CREATE VIEW "grafana"."experiments_v1" AS
SELECT id, name, tags, method, dataset, priority, created_at FROM experiments;

-- A run with the engine of its newest attempt, and where it stands.
CREATE VIEW "grafana"."runs_v1" AS
SELECT run.id, run.name, run.experiment_id, experiment.name AS experiment, experiment.tags, run.state::text AS state,
    run.method, run.dataset, run.priority, run.attempt AS attempts, run.created_at, run.queued_at, run.started_at,
    run.finished_at,
    extract(epoch FROM coalesce(run.started_at, run.finished_at, now()) - run.created_at)::float8 AS wait_seconds,
    extract(epoch FROM coalesce(run.finished_at, now()) - run.started_at)::float8 AS duration_seconds,
    run.progress ->> 'stage' AS stage, (run.progress ->> 'epoch')::float8 AS epoch,
    (run.progress ->> 'epochs')::float8 AS epochs, (run.progress ->> 'step')::bigint AS step,
    (run.progress ->> 'steps')::bigint AS steps, (run.progress ->> 'share')::float8 AS share,
    (run.progress ->> 'loss')::float8 AS loss, (run.progress ->> 'imagesPerSecond')::float8 AS images_per_second,
    (run.progress ->> 'secondsLeft')::float8 AS seconds_left, run.failure ->> 'code' AS failure_code,
    run.failure ->> 'message' AS failure_message, attempt.engine ->> 'name' AS engine, attempt.worker_id
FROM runs AS run
JOIN experiments AS experiment ON experiment.id = run.experiment_id
LEFT JOIN attempts AS attempt ON attempt.run_id = run.id AND attempt.number = run.attempt;

CREATE VIEW "grafana"."attempts_v1" AS
SELECT attempt.run_id, attempt.number, attempt.worker_id, worker.host, attempt.engine ->> 'name' AS engine,
    attempt.engine ->> 'device' AS device, attempt.started_at, attempt.ended_at, attempt.outcome::text AS outcome,
    attempt.resumed_from,
    extract(epoch FROM coalesce(attempt.ended_at, now()) - attempt.started_at)::float8 AS duration_seconds
FROM attempts AS attempt LEFT JOIN workers AS worker ON worker.id = attempt.worker_id;

CREATE VIEW "grafana"."run_series_v1" AS
SELECT run_id, name, first_step, last_step FROM metric_series;

-- Every point of every curve: ask for a run and a name, and bound the steps.
CREATE VIEW "grafana"."run_metrics_v1" AS
SELECT series.run_id, series.name, point.step, point.value, point.time
FROM metric_series AS series JOIN metric_points AS point ON point.series_id = series.id;

-- Every curve in 1,024 stretches of equal length at most, however long it is: the lowest and the highest finite value
-- of each, and how many points there are. `step` is where the stretch ends. The LIMITs keep each arm a walk along its
-- index that is not begun where the level is another.
CREATE VIEW "grafana"."run_curves_v1" AS
SELECT series.run_id, series.name, stretch.step, stretch.low, stretch.high, stretch.points
FROM (
    SELECT id, run_id, name, CASE WHEN last_step - first_step < 1024 THEN 0 WHEN last_step - first_step < 32768 THEN 1
        WHEN last_step - first_step < 1048576 THEN 2 WHEN last_step - first_step < 33554432 THEN 3 ELSE 4 END AS level
    FROM metric_series
) AS series CROSS JOIN LATERAL (
    (SELECT step, CASE WHEN value NOT IN ('NaN', 'Infinity', '-Infinity') THEN value END AS low,
        CASE WHEN value NOT IN ('NaN', 'Infinity', '-Infinity') THEN value END AS high, 1::bigint AS points
    FROM metric_points WHERE series_id = series.id AND series.level = 0 ORDER BY step LIMIT 2000)
    UNION ALL
    (SELECT last_step, min, max, count FROM metric_rollups
    WHERE series_id = series.id AND level = series.level AND series.level > 0 ORDER BY bucket LIMIT 2000)
) AS stretch;

-- Numbers that JSON has no word for are strings there, which are numbers here.
CREATE VIEW "grafana"."run_scores_v1" AS
SELECT finding.run_id, finding.evaluation, finding.index, score.key AS score, score.value::float8 AS value,
    finding.created_at AS time
FROM findings AS finding CROSS JOIN LATERAL jsonb_each_text(finding.scores) AS score;

CREATE VIEW "grafana"."run_log_v1" AS
SELECT run_id, attempt, number, time, level, text FROM run_log;

CREATE VIEW "grafana"."run_samples_v1" AS
SELECT run_id, attempt, time, cpu AS cores_busy, rss AS memory_bytes, system_load, system_memory AS system_memory_bytes
FROM run_samples;

CREATE VIEW "grafana"."checkpoints_v1" AS
SELECT id, run_id, attempt, step, final, size AS size_bytes, created_at FROM checkpoints;

-- As src/store/workers.ts has it: a worker sends a heartbeat every two seconds.
CREATE VIEW "grafana"."workers_v1" AS
SELECT id, host, pid, version, engine, engine_version, threads, device, cores, memory_bytes, concurrency AS slots,
    coalesce(cardinality(run_ids), 0) AS busy, CASE WHEN stopped_at IS NOT NULL THEN 'stopped'
        WHEN heartbeat_at < now() - interval '9 s' THEN 'lost'
        WHEN heartbeat_at < now() - interval '5 s' THEN 'unknown' ELSE 'online' END AS state,
    started_at, heartbeat_at, stopped_at, extract(epoch FROM now() - heartbeat_at)::float8 AS heartbeat_age_seconds
FROM workers;

-- What waits, in the order in which it is taken up.
CREATE VIEW "grafana"."queue_v1" AS
SELECT row_number() OVER (ORDER BY run.priority DESC, run.attempt > 0 DESC, run.created_at, run.id) AS place,
    run.id AS run_id, run.name AS run, experiment.name AS experiment, run.method, run.dataset, run.priority,
    run.attempt AS attempts, run.queued_at, extract(epoch FROM now() - run.queued_at)::float8 AS waiting_seconds
FROM runs AS run JOIN experiments AS experiment ON experiment.id = run.experiment_id WHERE run.state = 'queued';

CREATE VIEW "grafana"."events_v1" AS
SELECT event.id, event.time, event.kind, event.experiment_id, event.run_id, run.name AS run,
    (event.data ->> 'attempt')::int AS attempt, event.data ->> 'outcome' AS outcome,
    event.data -> 'failure' ->> 'code' AS failure_code
FROM events AS event LEFT JOIN runs AS run ON run.id = event.run_id;
