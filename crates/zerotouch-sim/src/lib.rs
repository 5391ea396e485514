//! A simulated world of devices, one cloud and a faulty network, in virtual time, from a seed
