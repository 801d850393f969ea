//! `processed/<id>/`: take by rename, write status atomically, what a restart finds.
