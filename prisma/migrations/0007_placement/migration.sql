-- AlterTable
ALTER TABLE "runs" ADD COLUMN "needs" JSONB NOT NULL DEFAULT '{}';

-- AlterTable
ALTER TABLE "workers" ADD COLUMN "offer" JSONB NOT NULL DEFAULT '{}';
