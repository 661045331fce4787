//! Tests of gradc as a whole; see the folder `tests/`.
