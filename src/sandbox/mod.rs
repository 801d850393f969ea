//! What one run is held by.
