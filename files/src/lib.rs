//! Plain files that grow and change by epochs: a crash leaves the old epoch or the new one, whole.
