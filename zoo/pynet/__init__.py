"""PyNET and PyNET-QxQ: a demosaicing network over five scales, and a small one of its finest scale for QxQ sensors.

- `blocks`: convolutions, multi-blocks, up-sampling and heads, with the names of the released checkpoints.
- `pynet`: PyNET.
- `pynet_qxq`: PyNET-QxQ.
- `skip`: the correction of another method's picture, by either network.
- `released`: the network that fits a published checkpoint.
"""

from zoo.pynet.pynet import PyNET as PyNET
from zoo.pynet.pynet_qxq import PyNETQxQ as PyNETQxQ
