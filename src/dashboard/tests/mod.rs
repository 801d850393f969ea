//! What people see, at every size.

mod scene;
mod screens;
