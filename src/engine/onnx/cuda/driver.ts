import { Unavailable } from '../../../errors.ts'
import { loaded, loadKoffi } from './api.ts'

/** NVIDIA's driver, as programs find it. */
export const driverLibrary = 'libcuda.so.1'

const noDevice = 100

export interface CudaDevice {
  name: string
  memoryBytes: number
}

const cure =
  "install NVIDIA's driver (580 or later for CUDA 13) and see that nvidia-smi lists the GPU; give a container the GPU " +
  '(docker run --gpus all)'

function functionOf(driver: ReturnType<typeof loaded>, declaration: string, library: string) {
  try {
    return driver.func(declaration)
  } catch (cause) {
    throw new Unavailable(`${library} is no driver of NVIDIA's: ${(cause as Error).message}`, cure, { cause })
  }
}

/** A device by its number among those that are visible. Throws Unavailable where there is no driver, or no such device. */
export function openDevice(index: number, library = driverLibrary): CudaDevice {
  const koffi = loadKoffi()
  let driver: ReturnType<typeof loaded>
  try {
    driver = loaded(koffi, library)
  } catch (cause) {
    throw new Unavailable(`NVIDIA's driver does not load: ${(cause as Error).message}`, cure, { cause })
  }
  const refuse = (what: string, code: number): never => {
    if (code === noDevice) throw new Unavailable("NVIDIA's driver finds no GPU", cure)
    throw new Unavailable(`NVIDIA's driver does not answer: ${what} gives error ${code}`, cure)
  }
  const call = (declaration: string, ...given: unknown[]) => {
    const code = functionOf(driver, declaration, library)(...given) as number
    if (code !== 0) refuse(/(\w+)\(/.exec(declaration)![1]!, code)
  }
  const number = new Int32Array(1)
  call('int cuInit(unsigned int flags)', 0)
  call('int cuDeviceGetCount(void *count)', number)
  const [count] = number
  if (count === 0) refuse('cuDeviceGetCount', noDevice)
  if (index >= count!) throw new Unavailable(`there is no CUDA device ${index}: the driver sees ${count}`, cure)
  const name = new Uint8Array(256)
  const bytes = new BigUint64Array(1)
  call('int cuDeviceGet(void *device, int index)', number, index)
  const device = number[0]!
  call('int cuDeviceGetName(void *name, int length, int device)', name, name.length, device)
  call('int cuDeviceTotalMem_v2(void *bytes, int device)', bytes, device)
  const text = Buffer.from(name).toString('utf8')
  return { name: text.slice(0, text.indexOf('\0')), memoryBytes: Number(bytes[0]) }
}
