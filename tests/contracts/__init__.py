"""What every implementation must do; tests of both kinds inherit it."""
