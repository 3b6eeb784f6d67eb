-- CreateTable
CREATE TABLE "archives" (
    "run_id" UUID NOT NULL,
    "key" TEXT NOT NULL,
    "size" BIGINT NOT NULL,
    "sha256" TEXT NOT NULL,
    "points" BIGINT NOT NULL,
    "parts" JSONB NOT NULL,
    "created_at" TIMESTAMPTZ(3) NOT NULL DEFAULT CURRENT_TIMESTAMP,
    "begun_at" TIMESTAMPTZ(3),
    "emptied_at" TIMESTAMPTZ(3),

    CONSTRAINT "archives_pkey" PRIMARY KEY ("run_id")
);

-- AddForeignKey
ALTER TABLE "archives" ADD CONSTRAINT "archives_run_id_fkey" FOREIGN KEY ("run_id") REFERENCES "runs"("id") ON DELETE CASCADE ON UPDATE CASCADE;



-- What the schema language cannot say.

-- The few whose rows are still to be removed from the database.
CREATE INDEX "archives_unfinished_idx" ON "archives" ("created_at") WHERE "emptied_at" IS NULL;
