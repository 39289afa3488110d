"""What is measured: data sets, and the files behind them. A module here registers data sets by being here."""
