"""Configuration values as YAML, packaged as dlrm.conf; types live in dlrm/config."""
