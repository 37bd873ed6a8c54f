//! Holds that nobody confirms.
