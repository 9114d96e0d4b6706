"""One LightningModule for every model, with averaged weights and skipped updates."""
