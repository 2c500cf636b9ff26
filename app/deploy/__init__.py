"""Deployment files: templates, and what fills them in from the application's own facts."""
