//! The table kind -> handler, resource, limits; the last good one is kept.

mod fields;
mod index;
mod route;
mod template;

pub use route::{
    Container, ContainerEngine, Folder, HandlerSource, Network, OnCrash, Retry, RetryOn, Route, SecretsAs,
};
pub use template::{NoResource, Template};
