//! The git repository: commits by tree edit, fetch, fast-forward, replay, push.
