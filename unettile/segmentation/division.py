"""Division: which shard does what of a stack: whole planes where there are as many as shards, else a part of each."""

from __future__ import annotations

from dataclasses import dataclass

from unettile.tiling import Shard


@dataclass(frozen=True)
class Division:
    """Planes and the shards that compute them.

    Args:
        planes: of the stack; 1 of a single image.
        shards: how many there are.
    """

    planes: int
    shards: int

    @property
    def is_of_planes(self) -> bool:
        """Whether shards are whole planes."""
        return self.planes >= self.shards

    @property
    def plane_shards(self) -> int:
        """How many shards the plan of a plane has.

        >>> Division(6, 2).plane_shards, Division(3, 8).plane_shards
        (1, 8)
        """
        return 1 if self.is_of_planes else self.shards

    def part(self, shard: Shard) -> Shard:
        """Return which part of each of its planes a shard computes."""
        return Shard(0, 1) if self.is_of_planes else shard

    def planes_of(self, shard: int) -> range:
        """Return the numbers of the planes that a shard has a part in."""
        if not self.is_of_planes:
            return range(self.planes)
        return range(shard * self.planes // self.shards, (shard + 1) * self.planes // self.shards)

    def shards_of(self, plane: int) -> list[int]:
        """Return which shards compute a plane, or a part of it."""
        return [shard for shard in range(self.shards) if plane in self.planes_of(shard)]
