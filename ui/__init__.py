"""The dashboard: Streamlit pages that talk to the service over HTTP only."""
