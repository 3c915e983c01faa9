//! The properties that the fuzz targets try, shared with the proptests of lovol itself.

#[path = "../../properties.rs"]
pub mod properties;
