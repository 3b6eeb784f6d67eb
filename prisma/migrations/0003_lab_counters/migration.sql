-- CreateTable
CREATE TABLE "tallies" (
    "name" TEXT NOT NULL,
    "label" TEXT NOT NULL,
    "count" BIGINT NOT NULL,
    "sum" DOUBLE PRECISION NOT NULL,

    CONSTRAINT "tallies_pkey" PRIMARY KEY ("name","label")
);

-- CreateTable
CREATE TABLE "tally_log" (
    "id" BIGSERIAL NOT NULL,
    "name" TEXT NOT NULL,
    "label" TEXT NOT NULL DEFAULT '',
    "count" BIGINT NOT NULL,
    "sum" DOUBLE PRECISION NOT NULL DEFAULT 0,

    CONSTRAINT "tally_log_pkey" PRIMARY KEY ("id")
);
