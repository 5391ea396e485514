//! The life of a device identity as one sans-IO engine: provision, connect, renew, recover
