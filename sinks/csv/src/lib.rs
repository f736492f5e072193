//! CSV files as a pipeline sink.
