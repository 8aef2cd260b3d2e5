"""The camera: its sensor, photographs as training data, demosaicing without a network, and the scores of all methods.

- `sensor`: colour filter arrays, mosaics and their packing, noise and unevenness.
- `photographs`: mosaics with their truth, to train on and to measure with.
- `methods`: conventional demosaicing, from bins to the best linear filters.
- `scoring`: metrics, artefacts and pictures of the results.
"""

from zoo.raw.methods.baselines import BinBicubic as BinBicubic
from zoo.raw.methods.baselines import Malvar as Malvar
from zoo.raw.methods.baselines import NormalisedConvolution as NormalisedConvolution
from zoo.raw.methods.lmmse import LMMSEPhase as LMMSEPhase
from zoo.raw.methods.menon import Menon as Menon
from zoo.raw.methods.remosaic import Remosaic as Remosaic
from zoo.raw.methods.steered import SteeredKernelRegression as SteeredKernelRegression
from zoo.raw.photographs.dataset import PhotographCrops as PhotographCrops
from zoo.raw.photographs.dataset import PhotographFrames as PhotographFrames
from zoo.raw.photographs.losses import mse_inside as mse_inside
from zoo.raw.photographs.photographs import Photographs as Photographs
from zoo.raw.photographs.targets import Reduced as Reduced
from zoo.raw.scoring.evaluation import DemosaicEvaluation as DemosaicEvaluation
from zoo.raw.sensor.cfa import CFA as CFA
from zoo.raw.sensor.from_mosaic import FromAnyMosaic as FromAnyMosaic
from zoo.raw.sensor.from_mosaic import FromMosaic as FromMosaic
from zoo.raw.sensor.sensor import Sensor as Sensor
