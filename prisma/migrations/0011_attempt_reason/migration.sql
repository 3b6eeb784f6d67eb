-- AlterTable
ALTER TABLE "attempts" ADD COLUMN     "reason" TEXT;
