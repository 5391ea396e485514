//! An emulator of Azure DPS, the Azure Device Registry certificate authority and IoT Hub, for tests and laptops
