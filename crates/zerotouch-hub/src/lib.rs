//! Sans-IO IoT Hub device protocol: telemetry, commands, twin, methods, certificate renewal
