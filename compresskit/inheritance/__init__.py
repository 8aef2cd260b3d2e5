"""A student's initial weights from its teacher: structured pruning of the teacher to the student's widths.

- `inherit`: the function: traces both models, pairs their channels, copies the weights.
- `channels`: channels of parameters that must be chosen together, as a union-find.
- `labels`: the channel of each element of a tensor.
- `trace`: labels carried through a forward, operator by operator.
- `pairing`: a teacher's channel for each channel of the student.
- `report`: what was inherited, and why the rest was not.
"""

from compresskit.inheritance.inherit import inherit as inherit
from compresskit.inheritance.report import InheritanceReport as InheritanceReport
