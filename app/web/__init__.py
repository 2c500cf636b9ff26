"""The worker's web pages, on Faust's own web server."""
