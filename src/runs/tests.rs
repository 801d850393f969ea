//! Takes that are cut short at every step, with real files.

