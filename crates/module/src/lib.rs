//! module.yaml.
