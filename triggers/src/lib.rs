//! When a pipeline runs: interval, cron and manual triggers.
