"""Why a trained model says what it says: features, tables, and single rows."""
