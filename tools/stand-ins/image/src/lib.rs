//! Stands in for the crate `image`, which `openai-harmony` names as a dependency and does not use.
