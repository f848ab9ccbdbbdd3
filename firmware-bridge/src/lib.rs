//! sfm-firmware-bridge
