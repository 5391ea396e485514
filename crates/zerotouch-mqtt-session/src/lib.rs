//! Sans-IO MQTT 3.1.1 connection engines, client and server
