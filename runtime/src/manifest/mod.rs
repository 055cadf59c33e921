//! YAML documents to definitions: reads, keeps file and line, merges profiles, resolves secrets.
