-- CreateTable
CREATE TABLE "weights" (
    "id" UUID NOT NULL,
    "name" TEXT NOT NULL,
    "source" TEXT NOT NULL,
    "map" JSONB NOT NULL,
    "key" TEXT NOT NULL,
    "size" BIGINT NOT NULL,
    "file_sha256" TEXT NOT NULL,
    "sha256" TEXT NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,

    CONSTRAINT "weights_pkey" PRIMARY KEY ("id")
);

-- CreateTable
CREATE TABLE "starts" (
    "run_id" UUID NOT NULL,
    "checkpoint_id" UUID,
    "weights_id" UUID,

    CONSTRAINT "starts_pkey" PRIMARY KEY ("run_id")
);

-- CreateIndex
CREATE UNIQUE INDEX "weights_name_key" ON "weights"("name");

-- CreateIndex
CREATE INDEX "starts_checkpoint_id_idx" ON "starts"("checkpoint_id");

-- CreateIndex
CREATE INDEX "starts_weights_id_idx" ON "starts"("weights_id");

-- AddForeignKey
ALTER TABLE "starts" ADD CONSTRAINT "starts_run_id_fkey" FOREIGN KEY ("run_id") REFERENCES "runs"("id") ON DELETE CASCADE ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "starts" ADD CONSTRAINT "starts_checkpoint_id_fkey" FOREIGN KEY ("checkpoint_id") REFERENCES "checkpoints"("id") ON DELETE RESTRICT ON UPDATE CASCADE;

-- AddForeignKey
ALTER TABLE "starts" ADD CONSTRAINT "starts_weights_id_fkey" FOREIGN KEY ("weights_id") REFERENCES "weights"("id") ON DELETE RESTRICT ON UPDATE CASCADE;
