#!/bin/sh
# Measures this machine's GPU: ./run.sh [--only TEXT,...] [--tiny] [--gpu NAME] [--python PATH]
# Needs Linux on x86-64 with glibc 2.36 or newer (2.34 where the C++ library is GCC 12's or newer) and the GPU's driver;
# nothing else has to be installed. What lies in lib/ is used where the machine lacks it. The last line is the result as JSON.
here=$(cd "$(dirname "$0")" && pwd)
PATH="$PATH:/usr/sbin:/sbin"
export PATH
cat "$here/MANIFEST"

own=$(mktemp -d) || exit 1
trap 'rm -rf "$own"' EXIT
known=$(ldconfig -p 2>/dev/null)
for file in "$here"/lib/*; do
  name=${file##*/}
  case $known in *"$name "*) ;; *) ln -s "$file" "$own/$name" ;; esac
done
LD_LIBRARY_PATH="${LD_LIBRARY_PATH:+$LD_LIBRARY_PATH:}$own"
export LD_LIBRARY_PATH
loads() { "$here/bin/node" -e 'require(process.argv[1])' "$here/node_modules/webgpu/dist/linux-x64/dawn.node" 2>/dev/null; }
# An old C++ library is of no use to Node and Dawn.
loads || for file in "$here"/lib/libstdc++.so.6 "$here"/lib/libgcc_s.so.1; do ln -sf "$file" "$own/${file##*/}"; done

# Where the loader does not look for NVIDIA's driver by itself.
described() { ls /usr/share/vulkan/icd.d/nvidia* >/dev/null 2>&1 || ls /etc/vulkan/icd.d/nvidia* >/dev/null 2>&1; }
if [ -z "$VK_DRIVER_FILES$VK_ICD_FILENAMES" ] && ! described; then
  icd=$(ls /usr/local/nvidia/share/vulkan/icd.d/nvidia*.json /usr/local/share/vulkan/icd.d/nvidia*.json 2>/dev/null | head -n 1)
  for library in libGLX_nvidia.so.0 libEGL_nvidia.so.0; do
    case $icd$known in
      /*) ;;
      *"$library "*)
        icd=$own/nvidia_icd.json
        echo "{\"file_format_version\":\"1.0.0\",\"ICD\":{\"library_path\":\"$library\",\"api_version\":\"1.3.0\"}}" >"$icd"
        ;;
    esac
  done
  if [ -n "$icd" ]; then
    VK_DRIVER_FILES=$icd VK_ICD_FILENAMES=$icd
    export VK_DRIVER_FILES VK_ICD_FILENAMES
  fi
fi

echo
echo "driver description: ${VK_DRIVER_FILES:-those that the loader finds}; from lib/: $(ls "$own" | tr '\n' ' ')"
"$here/bin/node" "$here/app/gpu.js" gpu "$@"
