"""`interactions.npz` of a run: what the fusion layers have learned, epoch after epoch (Fig. 5 as a film).

Arrays of the file, with E entries, for every run of a model that has synthesizers:

- `epoch`, (E,): 0 before training, then the number of every epoch that is finished;
- `irregular` and `total`, (E,): the ir-interactions of `timm_video_psn.ir_interactions`;
- `sites`, (S,): names of the sites, in the order of the model;
- for each site, as `layer1`: `layer1`, (E, G_t, G_s), the l1 norms of `timm_video_psn.interaction_map`;
  `layer1/temporal_labels`, (G_t,), and `layer1/spatial_labels`, (G_s,), the names of rows and columns.

With --model-ema they are those of the averaged weights, as everything that is evaluated. No array is a pickle:
`numpy.load(path, allow_pickle=False)` reads them.
"""

from pathlib import Path
from typing import Any

import numpy as np

from timm_video_psn.files import atomic_path
from timm_video_psn.interactions import InteractionMap, Interactions


class InteractionHistory:
    """Writes the file anew after every epoch, all or nothing.

    Args:
        path: of the file.
        finished: epochs that the run has behind it, None for a new run; of an older file, what came later is dropped.
    """

    def __init__(self, path: Path, finished: int | None = None):
        self.path = path
        self.arrays: dict[str, np.ndarray] = {}
        if finished is not None and path.is_file():
            with np.load(path, allow_pickle=False) as old:
                self.arrays = dict(old)
            kept = self.arrays["epoch"] <= finished
            for name in self._over_epochs():
                self.arrays[name] = self.arrays[name][kept]

    def add(self, epoch: int, maps: dict[str, InteractionMap], interactions: Interactions) -> None:
        """Add an epoch, and write the file; nothing for a model without synthesizers, or an epoch that is there.

        Args:
            epoch: its number from 1 on, 0 for before training.
            maps: by site.
            interactions: of all sites.
        """
        if not maps or epoch in self.arrays.get("epoch", ()):
            return
        self.arrays["sites"] = np.array(list(maps))
        for site, each in maps.items():
            self.arrays[f"{site}/temporal_labels"] = np.array(each.temporal_labels)
            self.arrays[f"{site}/spatial_labels"] = np.array(each.spatial_labels)
            self._append(site, each.norms.astype(np.float32))
        for name, value in (("epoch", epoch), ("irregular", interactions.irregular), ("total", interactions.total)):
            self._append(name, np.int64(value))
        with atomic_path(self.path) as temporary, temporary.open("wb") as file:
            np.savez_compressed(file, allow_pickle=False, **self.arrays)

    def _append(self, name: str, value: Any) -> None:
        """One more entry of an array over epochs."""
        new = np.asarray(value)[None]
        self.arrays[name] = np.concatenate([self.arrays[name], new]) if name in self.arrays else new

    def _over_epochs(self) -> list[str]:
        """The arrays with an entry for every epoch."""
        return ["epoch", "irregular", "total", *self.arrays["sites"]]
