"""The released PyNET-QxQ written down plainly from its description, to measure against.

It pads, convolves, normalises and activates in separate steps, keeps every map until the picture is done, and puts the
mosaic back together block by block in numpy, for which it leaves torch. Its parameters have the names of the release,
so it takes the same weights as `zoo.pynet.PyNETQxQ`.
"""

import numpy as np
import torch
from torch import nn


class Layer(nn.Module):
    def __init__(self, inputs, outputs, kernel, *, norm):
        super().__init__()
        self.pad = nn.ReflectionPad2d(kernel // 2)
        self.conv2d = nn.Conv2d(inputs, outputs, kernel)
        self.instance = nn.InstanceNorm2d(outputs, affine=True) if norm else None
        self.activation = nn.LeakyReLU(0.2)

    def forward(self, x):
        x = self.conv2d(self.pad(x))
        if self.instance is not None:
            x = self.instance(x)
        return self.activation(x)


class Block(nn.Module):
    def __init__(self, inputs, width, largest, *, norm=False):
        super().__init__()
        self.kernels = range(3, largest + 1, 2)
        for kernel in self.kernels:
            self.add_module(f"conv_{kernel}a", Layer(inputs, width, kernel, norm=norm))
            self.add_module(f"conv_{kernel}b", Layer(width, width, kernel, norm=norm))

    def forward(self, x):
        outputs = []
        for kernel in self.kernels:
            first = getattr(self, f"conv_{kernel}a")(x)
            outputs.append(getattr(self, f"conv_{kernel}b")(first))
        return torch.cat(outputs, 1)


class Up(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.upchannel = nn.Conv2d(width, 4 * width, 3)
        self.shuffle = nn.PixelShuffle(2)

    def forward(self, x):
        return self.shuffle(self.upchannel(self.pad(x)))


class Last(nn.Module):
    def __init__(self, inputs):
        super().__init__()
        self.pad = nn.ReflectionPad2d(1)
        self.conv2d = nn.Conv2d(inputs, 3, 3)

    def forward(self, x):
        return torch.sigmoid(self.conv2d(self.pad(x)))


class ReleasedPyNETQxQ(nn.Module):
    def __init__(self, width=16, *, norm=True):
        super().__init__()
        self.conv_l1_d1 = Block(4, width, 3)
        self.conv_l1_d3 = Block(width, width, 5)
        self.conv_l1_d5 = Block(3 * width, width, 7, norm=norm)
        self.conv_l1_d6 = Block(3 * width, width, 9, norm=norm)
        self.conv_l1_d7 = Block(4 * width, width, 9, norm=norm)
        self.conv_l1_d8 = Block(4 * width, width, 9, norm=norm)
        self.conv_l1_d9 = Block(4 * width, width, 9, norm=norm)
        self.conv_l1_d10 = Block(4 * width, width, 7, norm=norm)
        self.conv_l1_d12 = Block(4 * width, width, 5, norm=norm)
        self.conv_l1_d14 = Block(3 * width, width, 3)
        self.conv_t0 = Up(width)
        self.conv_l0_d1 = Last(width + 1)

    def forward(self, x):
        d1 = self.conv_l1_d1(x)
        d3 = self.conv_l1_d3(d1)
        d4 = torch.cat([d3, d1], 1)
        d5 = self.conv_l1_d5(d4)
        d6 = self.conv_l1_d6(d5)
        d7 = self.conv_l1_d7(d6) + d6
        d8 = self.conv_l1_d8(d7) + d7
        d9 = self.conv_l1_d9(d8) + d8
        d10 = self.conv_l1_d10(d9)
        d11 = torch.cat([d10, d1], 1)
        d12 = self.conv_l1_d12(d11)
        d13 = torch.cat([d12, d1], 1)
        d14 = self.conv_l1_d14(d13)
        t0 = self.conv_t0(d14)
        l0 = torch.cat([t0, torch.from_numpy(mosaic_of(x.numpy()))], 1)
        return self.conv_l0_d1(l0)


def mosaic_of(packed):
    """Planes blue, green of red's rows, red, green of blue's rows back to a GRBG mosaic of 4x4 blocks, in loops."""
    count, _, height, width = packed.shape
    mosaic = np.zeros((count, 1, 2 * height, 2 * width), np.float32)
    places = [(4, 0), (0, 0), (0, 4), (4, 4)]
    for sample in range(count):
        for plane, (top, left) in enumerate(places):
            for row in range(0, height, 4):
                for column in range(0, width, 4):
                    block = packed[sample, plane, row : row + 4, column : column + 4]
                    y, x = 2 * row + top, 2 * column + left
                    mosaic[sample, 0, y : y + 4, x : x + 4] = block
    return mosaic
