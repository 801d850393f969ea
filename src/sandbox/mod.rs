//! What one run is held by: its limits, its closed environment, and its work folder with the files through which
//! request, result and progress pass.

mod environment;
mod memory;
mod own;
mod plan;
mod progress;
mod remove;
mod result;
mod work;

pub use memory::{MemoryFolder, memory_base};
pub use plan::{Limits, Plan};
pub use progress::{Progress, Step};
pub use result::read_result;
pub use work::{WorkError, WorkFolder, clear};
