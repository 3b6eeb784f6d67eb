-- AlterTable
ALTER TABLE "workers" ADD COLUMN     "gpu_fault" TEXT,
ADD COLUMN     "gpu_free_bytes" BIGINT,
ADD COLUMN     "gpu_memory_bytes" BIGINT,
ADD COLUMN     "gpu_name" TEXT,
ADD COLUMN     "gpu_slots" INTEGER NOT NULL DEFAULT 0,
ADD COLUMN     "gpu_used_bytes" BIGINT,
ADD COLUMN     "gpu_utilisation" DOUBLE PRECISION;

-- The columns it had, and behind them those of the GPU.
CREATE OR REPLACE VIEW "grafana"."workers_v1" AS
SELECT id, host, pid, version, engine, engine_version, threads, device, cores, memory_bytes, concurrency AS slots,
    coalesce(cardinality(run_ids), 0) AS busy, CASE WHEN stopped_at IS NOT NULL THEN 'stopped'
        WHEN heartbeat_at < now() - interval '9 s' THEN 'lost'
        WHEN heartbeat_at < now() - interval '5 s' THEN 'unknown' ELSE 'online' END AS state,
    started_at, heartbeat_at, stopped_at, extract(epoch FROM now() - heartbeat_at)::float8 AS heartbeat_age_seconds,
    gpu_name, gpu_slots, gpu_memory_bytes, gpu_free_bytes, gpu_used_bytes, gpu_utilisation, gpu_fault
FROM workers;
