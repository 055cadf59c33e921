//! Health, readiness, metrics and rule status over HTTP. No engine state of its own.
