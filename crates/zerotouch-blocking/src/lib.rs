//! zerotouch devices on blocking std, one thread each
