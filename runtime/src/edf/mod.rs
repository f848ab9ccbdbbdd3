//! EDF
