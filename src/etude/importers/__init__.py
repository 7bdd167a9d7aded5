"""Curves trained elsewhere: a CSV (plain or gzipped), Parquet, a data frame, a folder of TensorBoard logs.

Knows tables and what a row of one may mean; knows nothing of judging. `table` checks what a person brought, `trials`
reads trials and their status off the rows, `logs` makes a table of a TensorBoard folder.
"""

from etude.importers.table import Names, Table, read_table
from etude.importers.trials import Imported, arrange

__all__ = ["Imported", "Names", "Table", "arrange", "read_table"]
