"""The service: one model for many people. engine.py is its heart; app.py the HTTP around it; page/ the web page."""
