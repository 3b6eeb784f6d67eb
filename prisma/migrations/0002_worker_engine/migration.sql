-- AlterTable
ALTER TABLE "workers" ADD COLUMN     "device" TEXT,
ADD COLUMN     "engine_version" TEXT,
ADD COLUMN     "rejected_engines" JSONB NOT NULL DEFAULT '[]',
ADD COLUMN     "threads" INTEGER;
