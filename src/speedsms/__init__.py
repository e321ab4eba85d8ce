"""Send SMS and voice OTP through a SpeedSMS-compatible service."""

__version__ = "0.1.0"
