"""Scale-out: independent tasks over processes or a dask cluster, every result kept in a ledger.

`keys` says which results are the same, `ledger` keeps them on disk, `pools` are where work is
done, `runner` hands it out and takes up again what was lost.
"""

from analysis.scale.keys import PACKAGES, code_version, key_of
from analysis.scale.ledger import Ledger
from analysis.scale.runner import Runner, Task, opened

__all__ = ["PACKAGES", "Ledger", "Runner", "Task", "code_version", "key_of", "opened"]
