//! Detectors that look at every sample and state how rarely they are wrong.
